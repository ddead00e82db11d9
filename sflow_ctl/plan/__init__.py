"""The plan: the types that planner, scheduler and reports share."""
