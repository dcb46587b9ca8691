//! Strings to tokens and back: tokenizers, chat templates, the streaming decoder.
