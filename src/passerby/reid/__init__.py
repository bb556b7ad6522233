"""Who is who: embed, compare, evaluate and calibrate; no torch and no video here."""
