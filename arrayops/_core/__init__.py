"""What every operator shares: records, dispatch, checks and shape arithmetic."""
