"""What is said of nodes that are silent for a while."""

from sflow_ctl.runtime.run.node_book import NodeBook


def test_clusters_minor_a_silent_node_is_named_once_and_so_is_its_return() -> None:
    said: list[str] = []
    book = NodeBook(["n0", "n1"], is_spooled=False)
    for silent in ({}, {1: 10.4}, {1: 11.4}, {1: 20.0}, {}, {}, {1: 10.2}):
        book.report_silences(silent, 30.0, said.append)
    assert said == [
        "node n1 has not been heard of for 10 s; it is given up after 30 s",
        "node n1 is heard of again, after 20 s",
        "node n1 has not been heard of for 10 s; it is given up after 30 s",
    ]
