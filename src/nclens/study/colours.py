"""Default colours of losses: a palette of kinds, and a scale for entries that differ in one number."""

# Okabe and Ito's palette, for colour-blind readers; yellow is left out because it is unreadable on white.
PALETTE = (
    *("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000"),
    # After those, dark ones of Tol's.
    *("#882255", "#44AA99", "#999933", "#332288", "#AA4499", "#661100"),
)

# Matplotlib's viridis from its dark end to where it becomes unreadable on white: evenly spaced to the eye.
SCALE = ("#440154", "#414487", "#2a788e", "#22a884", "#7ad151")


def on_scale(share: float) -> str:
    """Return the colour at a share in [0, 1] of the scale, #rrggbb, interpolated between its neighbours.

    >>> on_scale(0), on_scale(0.125), on_scale(1)
    ('#440154', '#42226e', '#7ad151')
    """
    place = share * (len(SCALE) - 1)
    below = min(int(place), len(SCALE) - 2)
    pairs = zip(_channels(SCALE[below]), _channels(SCALE[below + 1]), strict=True)
    return "#" + "".join(f"{round(low + (place - below) * (high - low)):02x}" for low, high in pairs)


def _channels(colour: str) -> tuple[int, int, int]:
    red, green, blue = (int(colour[start : start + 2], 16) for start in (1, 3, 5))
    return red, green, blue
