"""How a what-if report is read: `reading` says what is in it, `text` shows it, `page` writes it as HTML."""
