from jaxdet import class_names


def test_ids_of_coco_leave_out_the_ten_that_its_80_classes_leave_out():
    unused = {12, 26, 29, 30, 45, 66, 68, 69, 71, 83}
    assert list(class_names.COCO_IDS) == [i for i in range(1, 91) if i not in unused]
    assert len(set(class_names.COCO)) == len(class_names.COCO_IDS)
    named = dict(zip(class_names.COCO_IDS, class_names.COCO, strict=True))
    assert (named[1], named[23], named[90]) == ("person", "bear", "toothbrush")
