"""How do people see it? Data and plots for reading."""
