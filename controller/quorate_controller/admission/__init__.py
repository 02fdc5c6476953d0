"""Admission: refuses changes that would leave no plan, and reserves what it admits until the cluster shows it."""

from quorate_controller.admission import store
from quorate_controller.admission.server import serve_admission

__all__ = ["serve_admission", "store"]
