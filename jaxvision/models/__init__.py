"""Model families. Importing this package fills the registry."""

from jaxvision.models import resnet as resnet
