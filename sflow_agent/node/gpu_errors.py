"""Which errors of NVIDIA's driver mean that a GPU is lost until it is reset, and the sentences about them. Pure.

Source: NVIDIA, "XID Errors": errors whose remedy is a reset of the GPU or a restart of the node. Those of programs (13, 31, 43,
45, 68, 94 and others) leave the GPU usable: their tasks fail by themselves.
"""

LOST_BY_XID = {
    48: "uncorrectable memory error",
    62: "its microcontroller halted",
    64: "a broken row of its memory could not be replaced",
    74: "NVLink error",
    79: "it has fallen off the bus",
    95: "uncontained memory error",
    119: "its system processor does not answer",
    120: "its system processor failed",
    140: "unrecovered memory error",
    143: "it could not be initialised",
}
"""By the number of the error."""


def text_of_xid(xid: int) -> str | None:
    """Return why a GPU is lost with this error; None for an error that it survives."""
    text = LOST_BY_XID.get(xid)
    return None if text is None else f"{text} (Xid {xid})"
