"""Instruments that compare a secure run with a plain one."""
