"""llama.cpp through llama-cpp-python's low-level interface, which follows llama.h."""

import ctypes
import random
import time


class Llama:
    """A model with a context of one sequence, on the CPU with flash attention."""

    def __init__(self, path, threads, context):
        import llama_cpp

        self.api = llama_cpp
        # It is kept, or it could be collected while llama.cpp holds it.
        self.log = llama_cpp.llama_log_callback(lambda level, text, data: None)
        llama_cpp.llama_log_set(self.log, ctypes.c_void_p(0))
        llama_cpp.llama_backend_init()
        options = llama_cpp.llama_model_default_params()
        options.n_gpu_layers = 0
        self.model = llama_cpp.llama_model_load_from_file(str(path).encode(), options)
        if not self.model:
            raise SystemExit(f"llama.cpp cannot load {path}")
        options = llama_cpp.llama_context_default_params()
        options.n_ctx = context
        options.n_batch = options.n_ubatch = 512
        options.n_threads = options.n_threads_batch = threads
        options.flash_attn_type = llama_cpp.LLAMA_FLASH_ATTN_TYPE_ENABLED
        options.no_perf = True
        self.context = llama_cpp.llama_init_from_model(self.model, options)
        if not self.context:
            raise SystemExit(f"llama.cpp cannot make a context of {context} tokens")
        self.vocabulary = llama_cpp.llama_vocab_n_tokens(llama_cpp.llama_model_get_vocab(self.model))
        self.random = random.Random(1)

    def ids(self, count):
        """Random tokens, ready for llama_decode."""
        return (self.api.llama_token * count)(*(self.random.randrange(self.vocabulary) for _ in range(count)))

    def decode(self, ids):
        """Evaluates tokens in one batch, behind what the cache holds. Only the last one gets logits."""
        status = self.api.llama_decode(self.context, self.api.llama_batch_get_one(ids, len(ids)))
        if status != 0:
            raise SystemExit(f"llama_decode: status {status}")
        # Reading the logits waits for them, where the work is done elsewhere.
        self.api.llama_get_logits_ith(self.context, -1)

    def truncate(self, depth):
        """Forgets all tokens from `depth` on."""
        self.api.llama_memory_seq_rm(self.api.llama_get_memory(self.context), 0, depth, -1)

    def prepare(self, test, depth):
        """Fills the cache, and runs the test once uncounted."""
        self.truncate(0)
        for first in range(0, depth, 512):
            self.decode(self.ids(min(512, depth - first)))
        self.measure(test, depth)

    def measure(self, test, depth):
        """Tokens a second of one repetition."""
        kind, count = test
        self.truncate(depth)
        batches = [self.ids(min(512, count - first)) for first in range(0, count, 512)]
        if kind == "tg":
            batches = [self.ids(1) for _ in range(count)]
        start = time.perf_counter()
        for batch in batches:
            self.decode(batch)
        return count / (time.perf_counter() - start)

    def close(self):
        self.api.llama_free(self.context)
        self.api.llama_model_free(self.model)
