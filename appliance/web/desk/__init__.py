"""The desk: admin pages of the web door. A section is one small file here and one in ``page/desk``."""

from appliance.web.desk.frame import desk

__all__ = ["desk"]
