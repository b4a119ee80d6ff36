"""``auto`` inside vLLM: the router runs in the prefill of the request that it routes.

vLLM loads this plugin by its entry points. It does nothing unless ``POINTSMAN_CONFIG`` names a
project file.

A request for the model ``auto`` is an ordinary request of a LoRA without weights, so vLLM names,
schedules and batches it. When the prompt has passed the router's last layer, the router decides,
and the request becomes one of the chosen adapter: the layers above and all later steps are vLLM's
own. The decision travels back with the first token.

``settings``: the project. ``launch``: checks and vLLM's options. ``compatibility``: the versions
and internals of vLLM that this depends on. ``model`` and ``selection``: the worker. ``transport``:
from the worker to the front end. ``http``, ``conversations`` and ``decisions``: the API server.
"""
