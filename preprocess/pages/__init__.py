"""What do all HTML pages share? Their style, and charts as plain numbers."""
