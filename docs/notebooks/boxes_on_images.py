# %% [markdown]
# # Boxes on images in ten lines
#
# A detector is loaded and run on a folder of pictures; its boxes are written, read, tabulated and drawn.
# Nothing is downloaded: the pictures are simulated thermal frames and the weights are random. With
# `yolox_nano.pth` of YOLOX's authors or a run of your own the lines are the same.

# %%
import logging
import tempfile
from pathlib import Path

import matplotlib.pyplot as plt

import jaxdet
from jaxdet import __main__ as command
from jaxdet import config_files
from jaxdet.formats import coco
from jaxdet.models import from_config
from jaxdet.nn import functional

logging.disable(logging.INFO)
folder = Path(tempfile.mkdtemp())

# %% [markdown]
# ## What you have
#
# Pictures and weights. Here they are made: sixteen frames with labels, and a YOLOX-nano that has learned
# nothing.

# %%
source, data = folder / "LTDv2", folder / "ltdv2"
size = ["--train=16", "--val=16", "--test=16"]
command.main(["prepare", "synthetic", "--layout=ltdv2", f"--out={source}", *size])
command.main(["prepare", "ltdv2", f"--source={source}", f"--out={data}"])

config = config_files.load("ltdv2:nano")
parts = functional.split(from_config.build(config, 0))
jaxdet.Model(config, *parts).save(folder / "weights")

# %% [markdown]
# ## The ten lines
#
# An untrained detector gives every place the same low score, so all boxes are asked for; leave `min_score`
# out with trained weights.

# %%
model = jaxdet.load(folder / "weights", size=128, min_score=0.0)
pictures = data / "val" / "images"
found = list(model.predict(pictures))
jaxdet.write_boxes(folder / "boxes.csv", found)
again = jaxdet.read_boxes(folder / "boxes.csv")
print(model, f"{len(again)} frames, {sum(map(len, again))} boxes")

table = jaxdet.to_table(again[0].take(slice(3)))
print(*table)
picture = jaxdet.draw(pictures / again[0].source, again[0], min_score=0.5)
print(picture.shape, picture.dtype)

# %% [markdown]
# ## Draw
#
# `jaxdet.draw` draws the boxes of a detector and labels alike. These are the labels of a frame, what a
# trained detector should find.

# %%
labels = coco.read_annotations(data / "val" / "annotations.json").frames
boxes = labels[1]
figure, axis = plt.subplots(figsize=(8, 6), layout="constrained")
axis.imshow(jaxdet.draw(pictures / boxes.source, boxes))
axis.set_title(f"{boxes.source}: {len(boxes)} labels")
axis.axis("off")
plt.show()
