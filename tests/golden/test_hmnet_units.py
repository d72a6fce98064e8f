"""Blocks of HMNet against the released implementation; tolerance: 1e-4 of an array's largest entry,
float32."""

import golden_data as gd
import hmnet_golden as hg
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdet.models import events as event_ops
from jaxdet.models.events import StepEvents
from jaxdet.structs import EventGeometry

GEOMETRY = EventGeometry(240, 304)
GRIDS = ((60, 76), (30, 38), (15, 19))


@pytest.fixture(scope="module", params=["B1", "B3"])
def case(request):
    return hg.model(request.param), gd.load(f"hmnet/units_{request.param}")


@pytest.fixture(scope="module")
def case3():
    return hg.model("B3"), gd.load("hmnet/units_B3")


def latent(i, features):
    h, w = GRIDS[i - 1]
    return jnp.asarray(gd.normal(f"unit.z{i}", (2, h * w, features))).reshape(2, h, w, features)


def tokens(x):
    return np.asarray(x).reshape(x.shape[0], -1, x.shape[-1])


def thin(x, g, level):
    """Stored tokens and channels of a latent-shaped output."""
    token = {1: int(g["level1_token_stride"]), 2: int(g["level2_token_stride"]), 3: 1}[level]
    channel = {1: int(g["level1_channel_stride"]), 2: 16, 3: 8}[level]
    return tokens(x)[:, ::token, ::channel]


def split_events(events, step_end_us):
    """(t since the step began, x, y, p 0/1) of golden rows (t, x, y, p +-1)."""
    rows = np.asarray(events, np.float64).copy()
    rows[:, 0] -= step_end_us - 5000
    rows[:, 3] = (rows[:, 3] + 1) / 2
    return rows


def test_embedding_of_integer_events(case):
    model, g = case
    rows = split_events(g["int_events"], 10000)
    embedded = model.backbone.memory1.embed(
        jnp.asarray(rows[:, 1:3] % 4, jnp.float32), jnp.asarray(rows[:, 0]) // 50, jnp.asarray(rows[:, 3])
    )
    hg.close(embedded[: len(g["int_embedding"])], g["int_embedding"])
    cell = event_ops.cells(jnp.asarray(rows[:, 1:3], jnp.float32), 76, 4)
    np.testing.assert_array_equal(cell, g["int_query_index"])


def test_embedding_and_write_of_real_coordinates(case):
    model, g = case
    memory = model.backbone.memory1
    lanes = [split_events(g[f"float_events_b{b}"], 15000) for b in range(2)]
    rows = np.concatenate(lanes)
    xy = jnp.asarray(rows[:, 1:3], jnp.float32)
    embedded = memory.embed(jnp.mod(xy, 4), jnp.asarray(rows[:, 0]) // 50, jnp.asarray(rows[:, 3]))
    hg.close(embedded[::7], g["float_embedding"])
    lane = np.repeat([0, 1], [len(x) for x in lanes])
    np.testing.assert_array_equal(event_ops.cells(xy, 76, 4) + lane * 4560, g["float_query_index"])

    z = latent(1, memory.init_latent.shape[-1])
    events = StepEvents(hg.pack([[x] for x in lanes]), (512,), 76, 4560, 4)

    def attend(xy, t_us, polarity, cell):
        kv = event_ops.key_values(memory.embed, memory.write_bottom_up, xy, t_us, polarity, jnp.float32)
        return event_ops.attend(memory.write_bottom_up, z, kv, cell)

    message = events.over(jnp.asarray(0), attend)
    hg.close(thin(memory.write_bottom_up.attended(message), g, 1), g["event_write_attn"])
    hg.close(thin(memory.write_bottom_up(z, message), g, 1), g["event_write"])


def test_table_of_keys_and_values(case):
    model, g = case
    memory = model.backbone.memory1
    table = event_ops.key_value_table(memory.embed, memory.write_bottom_up, jnp.float32)
    time_bin, x, y, polarity = g["table_index_txyp"].T
    assert tuple(g["table_shape"]) == (100, 4, 4, 2, *table.shape[2:])
    where = [jnp.asarray(a) for a in (np.stack([x, y], -1), time_bin * 50, polarity)]
    rows = event_ops.table_rows(*where, GEOMETRY)
    hg.close(table[rows, 0], g["table_key"])
    hg.close(table[rows, 1], g["table_value"])


def test_update_and_readout_of_the_first_memory(case):
    model, g = case
    memory = model.backbone.memory1
    z = latent(1, memory.init_latent.shape[-1])
    hg.close(thin(memory.updated(z), g, 1), g["update1"])
    out = memory.readout(z).transpose(0, 3, 1, 2)
    hg.close(out[:, :: out.shape[1] // g["readout1"].shape[1]], g["readout1"])


def test_neck_and_head(case):
    model, g = case
    features = [gd.normal(f"unit.feat{i}", (1, 256, *size)) for i, size in enumerate(GRIDS)]
    features = [jnp.asarray(f.transpose(0, 2, 3, 1)) for f in features]
    levels = model.neck(features[: model.backbone.num_memories])
    for i, level in enumerate(levels, 1):
        expected = g[f"neck{i}"]
        level = level.transpose(0, 3, 1, 2)
        hg.close(level[:, :: 256 // expected.shape[1]], expected)
    hg.close(jax.jit(lambda x: model.head(x))(levels), g["head_raw"])


def test_bottom_up_writes(case3):
    model, g = case3
    _, memory2, memory3 = model.backbone.memories
    z1, z2, z3 = latent(1, 128), latent(2, 256), latent(3, 256)
    hg.close(thin(memory2.write_bottom_up.input_resize(z1), g, 2), g["downsample2"])
    hg.close(thin(memory2.write_bottom_up(z2, z1), g, 2), g["write2"])
    hg.close(thin(memory3.write_bottom_up(z3, z2), g, 3), g["write3"])
    hg.close(thin(memory3.write_bottom_up.attn(z3, z3[::-1]), g, 3), g["window_attn3"])


def test_messages_and_top_down(case3):
    model, g = case3
    _, memory2, memory3 = model.backbone.memories
    z1, z2, z3 = latent(1, 128), latent(2, 256), latent(3, 256)
    hg.close(thin(memory2.message_gen.input_resize(z1), g, 2), g["merge2"])
    hg.close(thin(memory2.message_gen(z2, z1), g, 1), g["message2"])
    message3 = memory3.message_gen(z3, z2)
    hg.close(thin(message3, g, 2), g["message3"])
    hg.close(thin(memory2.write_top_down(z2, message3), g, 2), g["topdown2"])


def test_updates_and_readout_of_upper_memories(case3):
    model, g = case3
    _, memory2, memory3 = model.backbone.memories
    z2, z3 = latent(2, 256), latent(3, 256)
    hg.close(thin(memory2.updated(z2), g, 2), g["update2"])
    hg.close(thin(memory3.updated(z3), g, 3), g["update3"])
    out = memory3.readout(z3).transpose(0, 3, 1, 2)
    hg.close(out[:, :: out.shape[1] // g["readout3"].shape[1]], g["readout3"])
