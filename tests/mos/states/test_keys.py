from mos.states.keys import context_key, latent_key, sample_contexts


def test_every_part_of_a_key_counts() -> None:
    keys = [
        context_key(""),
        context_key("a"),
        context_key("a "),
        context_key("A"),
        context_key("a", "00"),
        context_key("a", "01"),
        context_key("", "00"),
        latent_key("00", "pixel-1", "32x32"),
        latent_key("01", "pixel-1", "32x32"),
        latent_key("00", "pixel-2", "32x32"),
        latent_key("00", "pixel-1", "32x48"),
        latent_key("00", "pixel-1", "48x32"),
    ]
    assert len(set(keys)) == len(keys)
    assert all(len(key) == 64 for key in keys)


def test_keys_never_change_between_releases() -> None:
    """A table written years ago must be found again."""
    assert context_key("a red circle") == "b130aee398002b1d5b8c18a21ddb58625ceafd858d93fad9bef29596fbcb4297"
    assert latent_key("00", "pixel-1", "32x32") == "c6577f5a54f60db35c3756609e88c86eb2877f70e80cada9aa33c135420e81b4"


def test_only_a_tower_that_sees_images_keys_on_them() -> None:
    assert sample_contexts("make it red", "ff", sees_images=False) == (context_key("make it red"), context_key(""))
    assert sample_contexts("make it red", "ff", sees_images=True) == (
        context_key("make it red", "ff"),
        context_key("", "ff"),
    )
    assert sample_contexts("a", None, sees_images=True) == (context_key("a"), context_key(""))


def test_names_cannot_be_confused_with_each_other() -> None:
    assert context_key("a", "b") != context_key("ab")
    assert context_key('a","image":"b') != context_key("a", "b")
