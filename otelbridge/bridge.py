"""Joins the rooms: starts them in order, and drains them in order."""

from __future__ import annotations
