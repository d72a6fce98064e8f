# %% [markdown]
# # Evaluate the boxes of a file and see the kinds of errors
#
# Labels are those of simulated thermal frames. The faults of the detector are known, for they are made here:
# some boxes lie beside their object, some have the wrong class, some are there twice, and some objects are
# missed. The evaluation has to find them.

# %%
import logging
import tempfile
from dataclasses import replace
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

import jaxdet
from jaxdet import __main__ as command
from jaxdet.evaluation import diagnosis, of_files
from jaxdet.formats import coco

logging.disable(logging.INFO)
folder = Path(tempfile.mkdtemp())
source, data = folder / "LTDv2", folder / "ltdv2"
size = ["--train=16", "--val=48", "--test=16"]
command.main(["prepare", "synthetic", "--layout=ltdv2", f"--out={source}", *size])
command.main(["prepare", "ltdv2", f"--source={source}", f"--out={data}"])
annotations = data / "val" / "annotations.json"
labels = coco.read_annotations(annotations)
print(len(labels.frames), "frames,", sum(map(len, labels.frames)), "labels")

# %% [markdown]
# ## Boxes with faults

# %%
rng = np.random.default_rng(0)
faults = ["none", "place", "class", "duplicate", "missed"]
made = dict.fromkeys(faults, 0)


def faulty(boxes):
    """Boxes of a detector that finds the labels of a frame, but for its faults."""
    xyxy, classes = boxes.xyxy.copy(), boxes.labels.copy()
    scores = rng.uniform(0.5, 1, len(boxes))
    fault = rng.choice(faults, len(boxes), p=[0.6, 0.1, 0.1, 0.1, 0.1])
    for name in faults:
        made[name] += int((fault == name).sum())
    aside = fault == "place"
    xyxy[aside, ::2] += 0.5 * (xyxy[aside, 2:3] - xyxy[aside, :1])
    other = fault == "class"
    classes[other] = (classes[other] + 1) % len(labels.class_names)
    rows, twice = (np.flatnonzero(fault != "missed"), np.flatnonzero(fault == "duplicate"))
    scores = np.append(scores[rows], 0.9 * scores[twice])
    rows = np.append(rows, twice)
    new = {"xyxy": xyxy[rows], "scores": scores, "labels": classes[rows]}
    return replace(boxes, **new, file_xywh=None, area=None, crowd=None)


jaxdet.write_boxes(folder / "boxes.json", map(faulty, labels.frames))
print(made)

# %% [markdown]
# ## Average precision
#
# On a command line: `jaxdet evaluate --detections=boxes.json --annotations=annotations.json --report=report`,
# which also writes the page with curves, thresholds and the worst pictures.

# %%
metrics = of_files.of_files(folder / "boxes.json", annotations=annotations)
print(metrics.table())

# %% [markdown]
# ## Errors by kind
#
# The kinds and what each costs are those of TIDE (Bolya et al., ECCV 2020). A box shifted by half of its
# width overlaps its object by a third, which is an error of place. Objects that stand before each other can
# change the kind of an error.

# %%
errors = diagnosis.diagnose(metrics).errors
for kind, share in errors.items():
    known = made.get(kind, 0)
    print(f"{kind:>10}: {share.count:3d} found, {known:3d} made, AP50 -{share.cost:.3f}")
figure, axis = plt.subplots(figsize=(9, 3.4), layout="constrained")
axis.bar(list(errors), [share.cost for share in errors.values()])
axis.set_ylabel("AP50 that is lost")
plt.show()
