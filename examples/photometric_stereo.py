"""A hundred thousand small fits in one call on MLX: the shape of a surface from photographs under known lights.

Photometric stereo (Woodham 1980): a matt surface of albedo ρ and unit normal n, lit from the direction l, looks ρ l·n
bright, so that the photographs of one pixel are linear equations for g = ρ n. A light that a pixel does not see tells
it nothing, so each pixel drops its own dark equations and has a matrix of its own. Where fewer than three lights are
seen the matrix is rank-deficient: the answer is the shortest, and `rank` says which pixels these are.

References
----------
R. J. Woodham, "Photometric method for determining surface orientation from multiple images", Optical Engineering 19
(1980), 139-144.
"""

import time
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import mlx.core as mx
import numpy as np

from lstsq import lstsq

SIZE = 320
LIGHTS = 5
RADIUS = 0.7
NOISE = 0.01
OUT = Path("build/examples")


def surface(size):
    """Positions and unit normals (size, size, 3) and albedo (size, size) of half a ball on a rippled floor."""
    v, u = np.mgrid[1 : -1 : size * 1j, -1 : 1 : size * 1j]
    ball = np.hypot(u, v) < RADIUS
    places = np.stack([u, v, np.sqrt(np.clip(RADIUS**2 - u**2 - v**2, 0, None))], -1)
    slopes = [-0.28 * np.cos(14 * u) * np.cos(11 * v), 0.22 * np.sin(14 * u) * np.sin(11 * v)]
    floor = np.stack([*slopes, np.ones_like(u)], -1)
    normals = np.where(ball[..., None], places, floor)
    normals /= np.linalg.norm(normals, axis=-1, keepdims=True)
    checks = (np.floor(6 * u) + np.floor(6 * v)) % 2
    albedo = np.where(ball, 0.5 + 0.4 * checks, 0.65 + 0.25 * np.sin(9 * (u + v)))
    return places, normals, albedo


def photographs(places, normals, albedo, lights, rng):
    """Images (size, size, lights): what a camera with a little noise sees; 0 where a light does not reach."""
    along = places @ lights.T
    on_floor = places[..., 2:] == 0
    # The way to the light passes through the ball: towards its centre, and nearer to it than its radius.
    in_shadow = on_floor & (along < 0) & ((places**2).sum(-1, keepdims=True) - along**2 < RADIUS**2)
    shading = np.where(in_shadow, 0, np.clip(normals @ lights.T, 0, None)) * albedo[..., None]
    return np.where(shading > 0, np.clip(shading + NOISE * rng.normal(size=shading.shape), 0, None), 0)


def angles(normals, truth):
    """Degrees between two fields of normals."""
    return np.degrees(np.arccos(np.clip((normals * truth).sum(-1), -1, 1)))


rng = np.random.default_rng(0)
places, normals, albedo = surface(SIZE)
around = np.arange(LIGHTS) * 2 * np.pi / LIGHTS
tilt = np.radians(np.where(np.arange(LIGHTS) % 2, 40, 60))
lights = np.stack([np.sin(tilt) * np.cos(around), np.sin(tilt) * np.sin(around), np.cos(tilt)], -1)
images = photographs(places, normals, albedo, lights, rng).reshape(-1, LIGHTS).astype(np.float32)

# An equation for each light; those of the dark are zeros.
b = mx.array(images)[..., None]
a = mx.where(b > 0.02, mx.array(lights.astype(np.float32)), 0)

# What is loaded at a first call is not part of the time.
mx.eval(lstsq(a[:1], b[:1]).x, a, b)
start = time.perf_counter()
g, residuals, rank, s = lstsq(a, b)
mx.eval(g, residuals, rank)
seconds = time.perf_counter() - start
print(f"{a.shape[0]} fits of {a.shape[1]} equations in {a.shape[2]} unknowns: {1e3 * seconds:.0f} ms")

g = np.asarray(g)[..., 0].reshape(SIZE, SIZE, 3)
found_albedo = np.linalg.norm(g, axis=-1)
found = g / np.maximum(found_albedo, 1e-6)[..., None]
rank = np.asarray(rank).reshape(SIZE, SIZE)
error = angles(found, normals)
sure = rank == 3
print(f"three lights or more: {sure.mean():.1%} of the pixels, normals {np.median(error[sure]):.2f}° off (median)")
print(f"fewer: {(~sure).sum()} pixels of rank {sorted(set(rank[~sure].tolist()))}, {np.median(error[~sure]):.0f}° off")
assert np.median(error[sure]) < 1.5
assert abs(found_albedo - albedo)[sure].mean() < 0.01
assert a.shape[0] > 100_000
assert 0 < (~sure).mean() < 0.1

# One pixel in two thousand against NumPy.
for i in range(0, a.shape[0], 2000):
    expected = np.linalg.lstsq(np.asarray(a[i], float), np.asarray(b[i], float), rcond=2e-6)[0]
    assert np.allclose(g.reshape(-1, 3)[i], expected[:, 0], atol=1e-5)

OUT.mkdir(parents=True, exist_ok=True)
figure, axes = plt.subplots(2, 4, figsize=(12, 6.8), layout="constrained")
cube = images.reshape(SIZE, SIZE, LIGHTS)
panels = [
    ("photograph, light 1", cube[..., 0], "gray"),
    ("photograph, light 4", cube[..., 3], "gray"),
    ("normals found", (found + 1) / 2, None),
    ("normals", (normals + 1) / 2, None),
    ("albedo found", found_albedo, "gray"),
    ("albedo", albedo, "gray"),
    ("degrees off", error, "magma"),
    ("rank", rank, plt.get_cmap("viridis", 4)),
]
for axis, (title, picture, colours) in zip(axes.flat, panels):
    low, high = {"degrees off": (0, 5), "rank": (-0.5, 3.5)}.get(title, (0, 1))
    shown = axis.imshow(np.clip(picture, low, high), cmap=colours, vmin=low, vmax=high)
    if title in ("degrees off", "rank"):
        figure.colorbar(shown, ax=axis, orientation="horizontal", ticks=range(6), shrink=0.8)
    axis.set_title(title, fontsize=10)
    axis.set_axis_off()
figure.suptitle(f"{SIZE * SIZE} least-squares problems of {LIGHTS} × 3, solved in {1e3 * seconds:.0f} ms")
figure.savefig(OUT / "photometric_stereo.png", dpi=100)
print(f"written: {OUT / 'photometric_stereo.png'}")
