# %% [markdown]
# # Look at a recording: memories and their schedule
#
# A second of a simulated street goes through an HMNet of three memories with random weights. Drawn are the
# events, the length of the latents of each memory, and the steps of 5 ms at which each is updated.

# %%
import matplotlib.pyplot as plt
import numpy as np

from jaxdet import config_files
from jaxdet.data.events import streams
from jaxdet.data.synthetic import gen1
from jaxdet.inference.streaming import StreamDetector
from jaxdet.models import from_config
from jaxdet.nn import functional
from jaxdet.viewing import drawing

# %% [markdown]
# ## The recording
#
# `jaxdet.data.events.open.open_events("mine.raw").ordered()` gives the same chunks of a file of your own.

# %%
chunks, _ = gen1.simulate("test", 2, gen1.Simulation(duration_s=1))
events = streams.concatenate(list(chunks))
duration_s, brighter = events.t_us[-1] / 1e6, events.p.mean()
print(f"{len(events.t_us)} events in {duration_s:.2f} s; brighter: {brighter:.0%}")

# %% [markdown]
# ## The detector
#
# The three memories of the example `synthetic_b3`, with few channels. Their grids have cells of 16, 32 and 64
# pixels.

# %%
few = {"widths": "(32,32,32)", "num_heads": "(2,2,2)", "out_features": "32"}
config = config_files.load("synthetic_b3")
config_files.override(config, [(f"model.{key}", text) for key, text in few.items()])
skeleton, variables = functional.split(from_config.build(config, 0))
detector = StreamDetector(skeleton, variables, event_sizes=(1024,))

empty = detector.latents()
steps = list(detector.feed(*events))
latents = detector.latents()
for latent, period in zip(latents, config.model.periods):
    rows, columns, channels = latent.shape
    print(f"{rows} x {columns} cells, {channels} channels, every {5 * period} ms")
print(len(steps), "steps;", detector.report.line() or "no event was left out")

# %% [markdown]
# ## Events and latents
#
# The more a cell has seen since its memory was empty, the further its latent has moved, and it stays there
# when the events have ended: brighter cells reach beyond the events of the last 50 ms.

# %%
late = events.t_us > events.t_us[-1] - 50_000
shown = events.take(late)
picture = drawing.event_frame(shown.x, shown.y, shown.p, detector.geometry.size)
figure, axes = plt.subplots(2, 2, figsize=(9, 7.4), layout="constrained")
axes[0, 0].imshow(picture[..., ::-1])
axes[0, 0].set_title("events of the last 50 ms")
for number, axis in enumerate(axes.flat[1:]):
    moved = np.linalg.norm(latents[number] - empty[number], axis=-1)
    axis.imshow(moved, cmap="inferno")
    axis.set_title(f"memory {number + 1}")
for axis in axes.flat:
    axis.axis("off")
plt.show()

# %% [markdown]
# ## Schedule
#
# Which memories are updated at a step is known beforehand. HMNet-B3 as published has periods of 1, 3 and 9
# steps; after nine steps the pattern repeats, and each pattern is compiled once.

# %%
periods = config_files.load("gen1_hmnet:b3").model.periods
steps = np.arange(27)
updated = np.array([steps % period == 0 for period in periods])
figure, axis = plt.subplots(figsize=(9, 1.8), layout="constrained")
axis.pcolormesh(updated, cmap="Blues", vmax=1.4, edgecolors="white")
axis.set_yticks(np.arange(3) + 0.5, ["memory 1", "memory 2", "memory 3"])
axis.set_xticks(steps[::3] + 0.5, 5 * steps[::3])
axis.set_xlabel("time, ms")
axis.invert_yaxis()
plt.show()
