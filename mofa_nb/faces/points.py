"""478 landmarks to the 68 that the adapter is driven by, smoothing, and bridging of short gaps."""

# The detector's vertex for each of the 68 points in the usual order (jaw 0-16, brows 17-26, nose
# 27-35, eyes 36-47, mouth 48-67); the ends of the jaw line (0-2, 14-16) are approximate.
VERTEX_OF_68 = (
    *(162, 234, 93, 58, 172, 136, 149, 148, 152, 377, 378, 365, 397, 288, 323, 454, 389),
    *(71, 63, 105, 66, 107, 336, 296, 334, 293, 301),
    *(168, 197, 5, 4, 75, 97, 2, 326, 305),
    *(33, 160, 158, 133, 153, 144, 362, 385, 387, 263, 373, 380),
    *(61, 39, 37, 0, 267, 269, 291, 405, 314, 17, 84, 181, 78, 82, 13, 312, 308, 317, 14, 87),
)
