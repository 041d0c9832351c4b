"""What every report page shares: page shell, charts, templates."""
