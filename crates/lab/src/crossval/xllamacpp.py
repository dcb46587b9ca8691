"""llama.cpp's server, as PyPI `xllamacpp` has it, until standard input ends: prints its address."""

import sys

try:
    import xllamacpp
except ImportError as error:
    sys.exit(f"{error}; `{sys.executable} -m pip install xllamacpp` installs it")

path, context, threads = sys.argv[1:]
params = xllamacpp.CommonParams()
params.model.path, params.n_ctx, params.cpuparams.n_threads = path, int(context), int(threads)
server = xllamacpp.Server(params)
print(server.listening_address, flush=True)
sys.stdin.read()
