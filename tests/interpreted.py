"""Triton's interpreter, made fit for tests."""

from importlib.util import find_spec

if find_spec("triton"):
    import triton.language as tl
    from triton.runtime import interpreter


def patch_once():
    """Has a launch patch triton.language once; by itself it does so at every call of a device function, ever slower."""
    if not hasattr(interpreter, "_LangPatchScope") or getattr(interpreter._patch_lang, "once", False):
        return
    original, scopes, patched = interpreter._patch_lang, [], []

    def patch_lang(fn):
        names = {name for name in ("tl", "core") if fn.__globals__.get(name) in (tl, tl.core)}
        if names and names <= set(patched):
            return interpreter._LangPatchScope()
        scope = original(fn)
        patched.extend(names)
        scopes.append(scope.restore)
        scope.restore = restore
        return scope

    def restore():
        while scopes:
            scopes.pop()()
        patched.clear()

    patch_lang.once = True
    interpreter._patch_lang = patch_lang
