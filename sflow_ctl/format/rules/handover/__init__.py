"""Rules for what tasks take over from earlier attempts and from each other: checkpoints, inputs, outputs."""
