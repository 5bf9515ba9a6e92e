"""The benchmark: this library and its peers on the same problems, each answer checked before its time counts."""
