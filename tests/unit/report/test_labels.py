"""Names of points: placed where they hide least."""

from quire.report.labels import _box, _overlap, _unit, place


def test_a_lone_name_goes_above():
    assert place(["mxint4"], [(1.0, 1.0)], [(0.0, 0.0), (2.0, 2.0)], []) == ["top center"]


def test_a_name_at_an_edge_stays_inside():
    assert place(["bfp(4,scale_bits=8,size=16)"], [(1.0, 0.5)], [(0.0, 0.0), (0.0, 1.0)], []) == [
        "middle left"
    ]


def test_names_do_not_overlap_where_there_is_room():
    points = [(0.5, 0.5), (0.52, 0.6), (0.55, 0.5), (0.0, 0.0), (1.0, 1.0)]
    names = ["mxint4", "mxfp4", "bfp4", "low", "high"]
    positions = place(names, points, [], [])
    boxes = [
        _box(x, y, len(name), where)
        for (x, y), name, where in zip(_unit(points), names, positions, strict=True)
    ]
    shared = [_overlap(a, b) for i, a in enumerate(boxes) for b in boxes[:i]]
    assert max(shared) == 0.0


def test_overlap_is_the_area_in_common():
    assert _overlap((0, 0, 2, 2), (1, 1, 3, 3)) == 1
    assert _overlap((0, 0, 1, 1), (2, 0, 3, 1)) == 0
