"""An order and a book in, a result out."""
