"""Where the live panel meets the window: fed by the engine and by samples of the machine.

It is built once the window is on screen, and samples are taken only while it is to be seen.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from PySide6.QtCore import QObject, Signal

from app.engine_client import EngineState

if TYPE_CHECKING:
    from app.engine_client import EngineClient
    from app.telemetry import TelemetrySampler
    from app.widgets.engine_panel import EnginePanel
    from app.widgets.main_window import MainWindow
    from engine.messages import Ready

GONE_STATES = frozenset({EngineState.FAILED, EngineState.STOPPED, EngineState.STARTING})


class PanelDesk(QObject):
    """Wires the live panel to the window and the engine.

    Args:
        client: The engine.
        window: The window; owns all of this.
        folded: The sections that were folded when the window was left, as in the settings.

    Signals:
        simulate_requested(): Try a simulated GPU.
    """

    simulate_requested = Signal()

    def __init__(self, client: EngineClient, window: MainWindow, folded: str) -> None:
        super().__init__(window)
        self._client, self._window, self._folded = client, window, folded
        self._panel: EnginePanel | None = None
        self._telemetry: TelemetrySampler | None = None

    @property
    def folded(self) -> str:
        """The sections that are folded, for the settings."""
        return self._folded if self._panel is None else self._panel.folded

    def build(self) -> None:
        """Put the panel into the window; what the engine says from now on is shown there."""
        from app.telemetry import TelemetrySampler
        from app.widgets.engine_panel import EnginePanel

        panel = self._panel = EnginePanel()
        banners, client = self._window.chat.banners, self._client
        panel.simulate_requested.connect(self.simulate_requested)
        panel.problem.connect(lambda text: banners.show_banner("panel", text, "error"))
        panel.saved.connect(lambda text: banners.show_banner("panel", text))
        panel.fold(self._folded)
        client.loading.connect(panel.show_loading)
        client.passes.connect(panel.show_passes)
        client.snapshot.connect(panel.show_snapshot)
        client.finished.connect(lambda event: panel.show_finished(event.timings))
        self._window.panel_save_requested.connect(panel.menu.ask_and_save)
        telemetry = self._telemetry = TelemetrySampler(self)
        telemetry.sampled.connect(panel.show_machine)
        telemetry.set_engine_pid(client.engine_pid)
        client.ready.connect(self._on_ready)
        client.state_changed.connect(self._on_state)
        self._window.panel_shown.connect(self._sample_when_visible)
        self._window.set_panel(panel)
        self._sample_when_visible(self._window.panel_visible)

    def stop(self) -> None:
        """Sample no more."""
        if self._telemetry is not None:
            self._telemetry.stop()

    def _sample_when_visible(self, visible: bool) -> None:
        if self._telemetry is not None:
            (self._telemetry.start if visible else self._telemetry.stop)()

    def _on_ready(self, ready: Ready) -> None:
        assert self._panel is not None
        assert self._telemetry is not None
        self._panel.show_ready(ready)
        gpu = ready.planning.hardware.gpu
        self._telemetry.set_gpu(gpu.uuid if gpu is not None else "")

    def _on_state(self, state: EngineState) -> None:
        assert self._panel is not None
        assert self._telemetry is not None
        self._telemetry.set_engine_pid(self._client.engine_pid)
        if state in GONE_STATES:
            self._panel.clear()
