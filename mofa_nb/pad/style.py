"""How the pad's widgets look: one style sheet, and small builders that keep them alike."""

from collections.abc import Callable

from ipywidgets import HTML, Button, HBox, Layout, VBox, Widget

from mofa_nb.pad.picture import SCREEN
from mofa_nb.show.drawing import BRUSH_COLOUR, TRACK_COLOURS

MASK_COLOURS = {"brush": BRUSH_COLOUR, "mask": (120, 230, 160)}
HALF = SCREEN // 2 - 4  # width of a setting, pixels; its name takes the first 58
_CHIPS = "".join(
    f".mofa-chip{i} {{background:rgb{colour}!important; color:#12141a!important}}"
    for i, colour in enumerate(TRACK_COLOURS)
) + "".join(
    f".mofa-{name} {{box-shadow:inset 4px 0 0 rgb{colour}!important}}"
    for name, colour in MASK_COLOURS.items()
)
CSS = f"""<style>
.mofa-pad {{max-width:{2 * SCREEN + 24}px}}
.mofa-pad .jupyter-widgets {{margin:0}}
.mofa-pad .widget-label {{text-align:left!important}}
.mofa-stage {{cursor:crosshair; touch-action:none; outline:none!important}}
.mofa-stage:focus-visible {{outline:2px solid #4dabf7!important; outline-offset:-2px}}
.mofa-view {{background:rgba(128,128,128,.12)}}
.mofa-text .widget-html-content, .mofa-text {{line-height:20px; font-size:13px; opacity:.85;
 white-space:nowrap; overflow:hidden; text-overflow:ellipsis}}
.mofa-text .warn {{color:#e8590c; font-weight:600}}
.mofa-text img {{vertical-align:middle}}
.mofa-title {{font-weight:600; font-size:13px}}
.mofa-card {{border:1px solid rgba(128,128,128,.35); border-radius:4px; padding:6px}}
.mofa-code pre {{background:rgba(128,128,128,.12); padding:8px; border-radius:4px; font-size:12px;
 line-height:1.4; max-height:140px; overflow:auto; white-space:pre-wrap; word-break:break-all}}
[class*=mofa-chip] {{padding:0!important; font-weight:600!important}}
{_CHIPS}</style>"""


def watch(widget: Widget, act: Callable) -> Widget:
    """Call `act` with a widget's new value whenever it changes."""
    widget.observe(lambda change: act(change["new"]), "value")
    return widget


def field(
    kind: type, words: str = "", about: str = "", width: int = HALF, act=None, **values
) -> Widget:
    """A widget of some kind with its name and its tooltip, `act` called with its new values.
    Sliders and texts report when they are let go."""
    layout = Layout(width=f"{width}px", height="28px" if "Slider" in kind.__name__ else None)
    if hasattr(kind, "continuous_update"):
        values = {"continuous_update": False, **values}
    widget = kind(description=words, layout=layout, **values)
    tooltip = "tooltip" if widget.has_trait("tooltip") else "description_tooltip"
    setattr(widget, tooltip, about or None)  # ipywidgets 7 calls it otherwise
    if widget.has_trait("style") and widget.style.has_trait("description_width"):
        widget.style.description_width = "58px" if words else "initial"
    return watch(widget, act) if act else widget


def button(words: str, icon: str, about: str, click: Callable[[], object], width: int) -> Button:
    result = field(Button, words, about, width, icon=icon)
    result.on_click(lambda _: click())
    return result


def row(*widgets: Widget, gap: str = "6px", **layout: str) -> HBox:
    """Widgets side by side, centred on one line; they wrap where the page is narrow."""
    layout = {"align_items": "center", "flex_flow": "row wrap", **layout}
    return HBox(widgets, layout=Layout(grid_gap=gap, **layout))


def column(*widgets: Widget) -> VBox:
    """Widgets one under another in half of the pad's width."""
    return VBox(widgets, layout=Layout(width=f"{SCREEN}px", max_width="100%", grid_gap="6px"))


def text(width: str = "100%", height: str = "20px", value: str = "", **layout: str) -> HTML:
    """A line of quiet text whose place stays when it is empty."""
    result = HTML(value, layout=Layout(width=width, height=height, **layout))
    result.add_class("mofa-text")
    return result


def title(words: str) -> HTML:
    return HTML(f"<span class='mofa-title'>{words}</span>", layout=Layout(height="28px"))
