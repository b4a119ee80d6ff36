"""Trains the pocket's base from nothing: a tiny Qwen3-VL that locates, reads and describes.

::

    words, sheets   screens of random elements and words, beside the demo screens
    layout          what is on a drawn screen: texts, things, characters
    phrases, corpus questions about a layout and their answers; held-out phrasings in heldout.json
    tokenizer       byte-level BPE, one token for each fixed part of an action
    packing, feed   many questions of a screen in one row; worker processes that draw
    augment         colours, scale, noise, on the device
    network         the training forward, on the parameters of the stock model
    optimiser       Muon and AdamW, paced by the clock
    checkpoint      resumable, in parts, nothing pickled
    evaluate, curves
    ranks, train    all GPUs of a host; one run
    export          the checkpoint that any Qwen3-VL loader reads

``runs/pocket_base.sh`` is the one command. The questions are plain ones about the screen: the
instructions that the adapters are trained on, and the form of an action, never occur.
"""
