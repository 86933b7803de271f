"""From a certified version to a published and judged one."""
