"""The pages of the command line: in a browser, narrow and dark, with what they were made by."""

import html
import json
import re
import shutil
import subprocess

import numpy as np
import pytest
from rich.console import Console
from typer.testing import CliRunner

import lstsq
from lstsq_cli import about, app, problems, solvers
from lstsq_cli import page as pages
from lstsq_cli.compare import comparison, plots, tables

pytest.importorskip("pyarrow")

#: Their names on the systems that have them.
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")
BROWSER = next(filter(None, map(shutil.which, BROWSERS)), None)

#: Each page in a frame of this width says how wide it is and whether its images are there.
FRAMES = """<!doctype html>
<iframe id=compare width=420 height=4000 src="compare.html"></iframe>
<iframe id=fit width=420 height=4000 src="fit.html"></iframe>
<pre></pre>
<script>
const tell = ({id, contentDocument: page}) => [id, {
  width: page.documentElement.scrollWidth,
  images: [...page.images].map(image => image.complete && image.naturalWidth > 0),
  beside: Math.max(...[...page.querySelectorAll("td:nth-child(2)")].map(cell => cell.getBoundingClientRect().left)),
  outside: [...page.querySelectorAll("h1, h2, p, li, dd")].filter(part => part.scrollWidth > part.clientWidth).length,
  paper: getComputedStyle(page.body).backgroundColor,
}]
onload = () => {
  const told = [...document.querySelectorAll("iframe")].map(tell)
  document.querySelector("pre").textContent = JSON.stringify(Object.fromEntries(told))
}
</script>
"""


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """The pages of three commands, in one folder."""
    folder = tmp_path_factory.mktemp("pages")
    name = "a_rather_long_name_of_a_column_that_says_what_was_measured_and_where"
    numbers = np.random.default_rng(3).standard_normal((8, 3))
    np.savetxt(folder / "t.csv", numbers, delimiter=",", header=f"u,{name},y", comments="")
    quick = ["--backend", "numpy", "--no-memory", "--repeats", "1"]
    for page, arguments in {
        "compare": ["compare", folder / "t.csv", *quick],
        "fit": ["fit", folder / "t.csv", "--intercept"],
    }.items():
        result = CliRunner().invoke(app.app, [*map(str, arguments), "--html", str(folder / f"{page}.html")])
        assert result.exit_code == 0, result.output
    return folder


@pytest.mark.skipif(BROWSER is None, reason=f"needs a browser on the path: {', '.join(BROWSERS)}")
@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_in_a_browser(written, tmp_path, dark):
    frames = written / "frames.html"
    frames.write_text(FRAMES)
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"]
    options += ["--disable-background-networking", "--disable-component-update", "--disable-sync"]
    options += ["--allow-file-access-from-files", "--enable-logging=stderr", f"--user-data-dir={tmp_path}"]
    options += ["--force-dark-mode"] if dark else []
    command = [BROWSER, *options, "--dump-dom", frames.as_uri()]
    shown = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    assert [line for line in shown.stderr.splitlines() if ":CONSOLE" in line] == []
    told = json.loads(html.unescape(re.search(r"<pre>(.*)</pre>", shown.stdout)[1]))
    for page in told.values():
        assert page["width"] <= 420
        assert page["outside"] == 0
        # Beside the longest name there is room for numbers.
        assert page["beside"] < 300
        assert all(page["images"])
        assert page["paper"] == ("rgb(20, 25, 31)" if dark else "rgb(255, 255, 255)")
    assert {name: len(page["images"]) for name, page in told.items()} == {"compare": 5, "fit": 0}


@pytest.mark.parametrize("page", ["compare", "fit"])
def test_nothing_is_loaded_from_elsewhere(written, page):
    text = (written / f"{page}.html").read_text(encoding="utf-8")
    sources = re.findall(r'(?:src|href)="([^"]*)"', text)
    assert all(source.startswith(("data:", "#")) for source in sources)
    assert "url(" not in text
    assert "@import" not in text


@pytest.mark.parametrize("page", ["compare", "fit"])
def test_pages_say_what_they_were_made_by(written, page):
    text = (written / f"{page}.html").read_text(encoding="utf-8")
    for name, told in about.lines(about.about()):
        # The seconds pass, and more libraries may be loaded by now.
        assert f"<dt>{name}</dt>" in text
        if name in ("system", "processor"):
            assert html.escape(told) in text
    assert f"numpy {np.__version__}" in text
    assert f"lstsq {lstsq.__version__}" in text


@pytest.mark.parametrize(
    "arguments",
    [
        ["fit", "{folder}/t.csv"],
        ["compare", "{folder}/t.csv", "--backend", "numpy", "--no-memory", "--repeats", "1"],
        ["backends"],
    ],
)
def test_json_says_what_it_was_made_by(written, arguments, monkeypatch):
    arguments = [argument.format(folder=written) for argument in arguments]
    monkeypatch.setattr("sys.argv", ["lstsq", *arguments, "--json"])
    told = json.loads(CliRunner().invoke(app.app, [*arguments, "--json"]).stdout)["made_by"]
    assert told["command"] == " ".join(["lstsq", *arguments, "--json"])
    assert told["versions"]["numpy"] == np.__version__
    assert set(told) == {"command", "date", "versions", "system", "processor", "cores", "gpus", "threads"}


def test_code_in_messages_is_code():
    assert pages.prose("run `pip install <x>`.") == "run <code>pip install &lt;x&gt;</code>."
    assert pages.cell("`a`", "text") == '<td class="text"><code>a</code></td>'


def test_the_optimality_of_an_exact_fit_is_no_error():
    def compared(problem):
        found, refused = solvers.find(["numpy"], ["svd"], "float64")
        return comparison.compare(problem, found, refused, None, 1, False, lambda label, left: None)

    a = np.array([[1.0, 2.0], [2.0, 1.0], [1.0, 1.0], [4.0, 5.0]])
    exact = compared(problems.Problem("exact", a, a @ np.ones((2, 1)), ("u", "v")))
    other = compared(problems.random(9, 3, 10, 0))
    assert (exact.is_exact, other.is_exact) == (True, False)
    # matplotlib writes each text of a plot into a comment, too.
    assert "<!-- optimality -->" in plots.errors(other)
    assert "<!-- optimality -->" not in plots.errors(exact)
    assert any("The residual is itself rounding" in line for line in tables.notes(exact))


def test_plots_have_no_background_of_their_own():
    found, refused = solvers.find(["numpy"], ["gelsd"], "float64")
    result = comparison.compare(problems.random(9, 3, 10, 0), found, refused, None, 1, False, lambda label, left: None)
    assert "fill: #ffffff" not in plots.singular_values(result)


@pytest.mark.parametrize("width", [45, 80, 200])
def test_a_fit_in_a_terminal_of_every_width(tmp_path, width):
    from lstsq_cli.fit import estimate, terminal
    from lstsq_cli.tables import dataset
    from lstsq_cli.tables.reading import Reading

    path = tmp_path / "t.csv"
    names = ["u", "v", "a_rather_long_name_of_a_column_that_says_what_was_measured", "y"]
    np.savetxt(path, np.eye(6, 4), delimiter=",", header=",".join(names), comments="")
    with dataset.opened([path], Reading()) as data:
        fit = estimate.fit(data, None, None, lambda part, rows: None)
    with open(tmp_path / "shown", "w", encoding="utf-8") as file:
        terminal.show(fit, Console(width=width, file=file, highlight=False), 100)
    lines = (tmp_path / "shown").read_text(encoding="utf-8").splitlines()
    # The first line is whole, so that it can be searched for a file's name.
    assert max(map(len, lines[1:])) <= width
    assert any(re.search(r"^u +1 +", line) or re.search(r"^u +\S+ +\S+$", line) for line in lines)
