"""What the rules need from the outside: Postgres, Redis, argon2."""
