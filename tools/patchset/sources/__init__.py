"""Where a base's tree comes from: the submodule's git host, or the registry's archive of the release."""
