"""bnfold inside other tools. Nothing here is imported by anything else, nor are those tools."""
