class Rule:
    pass


RULES = []
good = oscillation = overfitting = plateau = underfitting = no_convergence = nothing_learned = Rule()


def diagnose(record):
    return []


def print_reading(record):
    pass
