"""Scripts that ask a ModelOpt tree; run by an interpreter that has what ModelOpt imports."""
