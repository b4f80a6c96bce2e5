r"""The formulas of docs/theory.md that a study's page shows, in LaTeX, character by character as they are there.

:math:`\mathcal L` is the objective and :math:`L` the largest curvature (eigenvalue of the Hessian) at the minimiser.
"""

SYMBOLS = {
    "kappa_ce": r"\kappa_{\mathrm{CE}}",
    "kappa_full": r"\kappa_{\mathrm{full}}",
    "kappa_full_features": r"\kappa_{\mathrm{full},H}",
    "kappa_full_range": r"\kappa_{\mathrm{full,range}}",
    "kappa_joint": r"\kappa_{\mathrm{joint}}",
    "kappa_joint_logits": r"\kappa_{\mathrm{joint,logits}}",
    "kappa_joint_scaled": r"\kappa_{\mathrm{joint,scaled}}",
}
"""Condition number -> its symbol."""

CLOSED_FORMS = {
    "logit_gap": r"a = \log\Bigl(\frac{K}{s+\delta} - K + 1\Bigr)",
    "weight_norm": r"|w_k|^2 = \frac{K-1}{K}\,a\sqrt{\frac{n\lambda_H}{\lambda_W}}",
    "feature_norm": r"|h_k|^2 = \frac{K-1}{K}\,a\sqrt{\frac{\lambda_W}{n\lambda_H}}",
    "p_true": r"p = 1 - (K-1)q",
    "p_other": r"q = (s+\delta)/K",
    "objective": r"\mathcal L^* = \log\bigl(1 + (K-1)e^{-a}\bigr) + (s+\delta)\,\frac{K-1}{K}\,a",
    "kappa_ce": r"\kappa_{\mathrm{CE}} = Kp",
    "kappa_full": r"\kappa_{\mathrm{full}} = 1 + \frac as Kpq",
    "kappa_full_features": r"\kappa_{\mathrm{full},H} = \kappa_{\mathrm{full}}",
    "kappa_full_range": r"\kappa_{\mathrm{full,range}} = \frac{1+\frac as Kpq}{1+\frac as q}",
    "kappa_joint": r"\kappa_{\mathrm{joint}} = L/\min_{\ell\ne0}\ell",
    "kappa_joint_logits": r"\kappa_{\mathrm{joint,logits}} = L/\min_{\ell\text{ moves }WH}\ell",
}
"""Quantity of the theory table -> its value at the minimiser where that is a simplex."""

FORMULAS = {
    "objective": r"\mathcal L = \frac1N \sum_i \mathrm{CE}_\delta(W h_i + b, y_i) + \frac{\lambda_W}{2}|W|_F^2"
    r" + \frac{\lambda_H}{2}|H|_F^2 + \frac{\lambda_b}{2}|b|^2",
    "samples": r"N = nK",
    "targets": r"y = (1-\delta)\,e_k + \delta/K\,\mathbf 1",
    "cross_entropy": r"\delta = 0",
    "s": r"s = K\sqrt{n\lambda_W\lambda_H}",
    "simplex": r"s + \delta < 1",
    "logits": r"WH = a\,C\otimes\mathbf 1_n'",
    "centring": r"C = I_K - \tfrac1K \mathbf 1 \mathbf 1'",
    "features": r"h_k = \sqrt{\frac{\lambda_W}{n\lambda_H}}\,w_k",
    "zero": r"s + \delta \ge 1",
    "zero_minimiser": r"W = H = b = 0",
    "dimensions": r"d \ge K-1",
    "fewest_dimensions": r"d = K-1",
    "norms": r"|h_k|/|w_k| = \sqrt r",
    "r": r"r = \frac{\lambda_W}{n\lambda_H}",
    "eigenvalues": r"\ell = \tfrac12\Bigl[(\lambda_W+\lambda_H)(1+t) \pm"
    r" \sqrt{(\lambda_W+\lambda_H)^2(1+t)^2 - 16\,t\,\lambda_W\lambda_H}\,\Bigr]",
    "t": r"t = \frac as\mu",
    "pairs": r"\mu = q",
    "gap": r"\mu = Kpq",
    "rate": r"\rho = -\log(1-\alpha L/\kappa)",
    "momentum": r"(1-\sqrt\beta)^2 < \alpha\ell < (1+\sqrt\beta)^2",
}
"""Name -> formula of classification."""

REGRESSION = {
    "direction": r"\tilde h_i = h_i/|h_i|",
    "nrc1": r"\mathrm{NRC1} = \frac1M \sum_i |\tilde h_i - P_{\mathrm{PCA}}\,\tilde h_i|^2",
    "nrc2": r"\mathrm{NRC2} = \frac1M \sum_i |\tilde h_i - P_W\,\tilde h_i|^2",
    "nrc3": r"\mathrm{NRC3} = \left|\frac{WW'}{|WW'|_F} - \frac{A_\gamma}{|A_\gamma|_F}\right|_F^2",
    "a_gamma": r"A_\gamma = \Sigma^{1/2} - \gamma^{1/2} I",
    "one_target": r"n = 1",
    "objective": r"\mathcal L = \frac{1}{2M}|WH + b\mathbf 1' - Y|_F^2 + \frac{\lambda_H}{2M}|H|_F^2"
    r" + \frac{\lambda_W}{2}|W|_F^2",
    "c": r"c = \lambda_W\lambda_H",
    "gram": r"WW' = \sqrt{\frac{\lambda_H}{\lambda_W}}\,\bigl(\Sigma^{1/2} - c^{1/2} I\bigr)",
    "features": r"H = \sqrt{\frac{\lambda_W}{\lambda_H}}\,W'\Sigma^{-1/2}(Y - \bar Y)",
    "bias": r"b = \bar y",
    "gamma": r"\gamma = c",
}
"""Name -> formula of regression."""
