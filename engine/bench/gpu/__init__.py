"""`python -m engine bench --suite gpu`: checks and times everything on a machine with a GPU, in parts, resumed at will.

suite     the order of all steps, and which are done
journal   what is done, one JSON line each
machine   facts and measured bandwidths        pcs       PCs that are simulated, CPU included
checks    right before fast                    cells     what is measured: policies, budgets, scenarios
measure   one cell                             bounds    what a token's bytes allow
rivals    llama.cpp and accelerate at the same VRAM
report    JSON and Markdown                    plots     pictures for it
"""
