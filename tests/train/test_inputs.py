"""What a run says of its data before it starts."""

from PIL import Image

from jaxvision.config import base_config, resolve
from jaxvision.train import inputs


def test_files_that_are_not_read_are_told_in_one_line(tmp_path, capsys):
    for split in ("train", "val"):
        (tmp_path / split / "ant").mkdir(parents=True)
        Image.new("RGB", (8, 8)).save(tmp_path / split / "ant" / "0.png")
        (tmp_path / split / "ant" / "1.heic").touch()
    config = base_config()
    config.data.name, config.data.dir = "folder", str(tmp_path)
    resolved = resolve(config)
    assert len(inputs.open_train(resolved)) == len(inputs.open_eval(resolved)) == 1
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2
    for split, line in zip(("train", "val"), lines, strict=True):
        assert line.startswith(f"note: files of {tmp_path / split} that are not read: 1 .heic; an image is named")
