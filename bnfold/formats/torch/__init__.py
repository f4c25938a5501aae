"""PyTorch: torch.export is the front door; the exported program stays the truth.

The only package of bnfold that imports torch. Rooms: `open` (file or factory -> model), `read`
(exported program -> neutral graph), `write` (edits -> exported program, module, files), `run`
(activations), `checkpoint` (state dicts alone).
"""
