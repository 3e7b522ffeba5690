"""A run -> one page, a model card; several runs -> what may be concluded."""
