"""Model families. Importing this package fills the registry."""

from jaxvision.models import convnext as convnext
from jaxvision.models import efficientnet as efficientnet
from jaxvision.models import resnest as resnest
from jaxvision.models import resnet as resnet
from jaxvision.models import simple_vit as simple_vit
from jaxvision.models import swin as swin
from jaxvision.models import vit as vit
