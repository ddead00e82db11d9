"""Why a program ended: reasons, log signatures and success conditions. Shared by controller and agent."""
