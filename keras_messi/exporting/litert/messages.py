"""What stops TensorFlow's converter to LiteRT, in words for the user."""

import re

_ADVICE = (
    "It is so in the uncompressed model, too. Leave their layers out of the exported "
    "model, or export it to another format."
)
# Of operations that it has for some inputs, what to do.
_ADVICE_BY_OPERATION = {
    "StridedSlice": "It has that for inputs of fixed sizes, here and in the "
    "uncompressed model: give `input_signature`, or create the model with such inputs."
}


def explained(message: str) -> str | None:
    """What a message of the converter says about the model, if that is known."""
    if "TensorListReserve" in message:
        return (
            "LiteRT has no built-in operation for a loop over the steps of a sequence"
            f"{_places(message)}. Create recurrent layers with unroll=True, for inputs "
            "of a fixed length."
        )
    operations = re.search(r"TF Select ops: (.*)", message)
    if operations is None:
        return None
    names = operations.group(1).strip()
    return (
        f"LiteRT has no built-in operation for these of the model: {names}"
        f"{_places(message)}. {_ADVICE_BY_OPERATION.get(names, _ADVICE)}"
    )


def _places(message: str) -> str:
    """Names of the layers that a message is about, as TensorFlow has them."""
    found = re.findall(r'error: loc\(callsite\(fused\["\w+:", "([^"@]+)@', message)
    names = sorted({name.rpartition("/")[0] for name in found} - {""})
    return f", in {', '.join(names)}" if names else ""
