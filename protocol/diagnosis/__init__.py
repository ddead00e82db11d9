"""Causes of program ends: reasons, log signatures and success conditions. Shared by controller and agent."""
