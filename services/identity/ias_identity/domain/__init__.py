"""The rules: plain classes and facts, no framework and no contract."""
