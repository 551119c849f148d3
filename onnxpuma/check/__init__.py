"""Instruments that hold a secure run against a plain one."""
