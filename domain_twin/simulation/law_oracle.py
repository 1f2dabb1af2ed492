from domain_twin.simulation.law_kernels import evaluate
import numpy as np


def evaluate_all(laws, rate, square):
    delay, variance, loss = np.empty_like(rate), np.empty_like(rate), np.empty_like(rate)
    for edge in range(len(rate)):
        evaluate(laws, edge, rate[edge], square[edge], delay[edge], variance[edge], loss[edge])
    return delay, variance, loss
