"""The charts of a run on a page: drawn once, then fed with new lines."""

from collections.abc import Mapping

from nicegui import ui

from bit_transformer.server.dashboard.chart_options import (
    CHARTS,
    ChartSpec,
    options_of,
    series_of,
    summary_of,
)
from bit_transformer.server.dashboard.desk import Desk
from bit_transformer.server.dashboard.history import History

_KEY = "Dashed lines are floors; a triangle warns that a reading has left its past (drift)."
Floors = Mapping[str, Mapping[str, float]]


class Charts:
    """Loss, K, C and S."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._charts: list[tuple[ChartSpec, ui.echart]] = []
        with ui.element("div").classes("bt-charts"):
            for spec in CHARTS:
                with ui.column().classes("bt-card").style("gap:4px"):
                    with ui.element("h3").classes("bt-title"):
                        ui.label(spec.title)
                    ui.label(spec.help).classes("bt-help")
                    chart = ui.echart(options_of(spec, desk.dark)).classes("bt-chart")
                    chart.props(f'role=img aria-label="{spec.title}"')
                self._charts.append((spec, chart))
        ui.label(_KEY).classes("bt-help").style("margin-top:-8px")

    def show(self, history: History, floors: Floors) -> None:
        """Draw the lines as they are now, in the colours of the theme.

        The lines are a part of the element and not a call of its method. A browser that has not
        loaded the chart's code yet, or has lost its connection, would lose a call; an element's
        options reach it whenever it is ready.
        """
        for spec, chart in self._charts:
            options = options_of(spec, self._desk.dark)
            options["series"] = series_of(spec, history, floors, self._desk.dark)
            chart.options.clear()
            chart.options.update(options)
            chart.props["aria-label"] = summary_of(spec, history)
            chart.update()
