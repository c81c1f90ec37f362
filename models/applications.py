"""Networks of Keras Applications, untrained, with logits."""

import tensorflow as tf

layers = tf.keras.layers
applications = tf.keras.applications


def vgg16(image_shape: tuple[int, int, int], num_classes: int) -> tf.keras.Model:
  """VGG16 with its two fully connected layers of 4,096.

  Source: https://arxiv.org/abs/1409.1556.

  Args:
    image_shape: Height, width and channels; smaller images are padded to 32x32 with zeros.
    num_classes: C.

  Returns:
    A model from images to logits `[n, C]`.
  """
  return _build(applications.VGG16, image_shape, num_classes, 32)


def densenet121(image_shape: tuple[int, int, int], num_classes: int) -> tf.keras.Model:
  """DenseNet-121 with the stem for large images.

  Source: https://arxiv.org/abs/1608.06993.

  Args:
    image_shape: Height, width and channels; smaller images are padded to 32x32 with zeros.
    num_classes: C.

  Returns:
    A model from images to logits `[n, C]`.
  """
  return _build(applications.DenseNet121, image_shape, num_classes, 32)


def densenet121_pooled(image_shape: tuple[int, int, int], num_classes: int) -> tf.keras.Model:
  """DenseNet-121 for small images: its first convolution has stride 1, only the pooling halves.

  The like of that in github.com/huyvnphan/PyTorch_CIFAR10, where this convolution is 3x3.

  Args:
    image_shape: Height, width and channels; smaller images are padded to 32x32 with zeros.
    num_classes: C.

  Returns:
    A model from images to logits `[n, C]`.
  """

  def copy(layer):
    stride = {"strides": 1} if layer.name == "conv1/conv" else {}
    return type(layer).from_config(layer.get_config() | stride)

  large = densenet121(image_shape, num_classes)
  return tf.keras.models.clone_model(large, clone_function=copy)


def resnet50(image_shape: tuple[int, int, int], num_classes: int) -> tf.keras.Model:
  """ResNet-50 with the stem for large images.

  Source: https://arxiv.org/abs/1512.03385.

  Args:
    image_shape: Height, width and channels; smaller images are padded to 32x32 with zeros.
    num_classes: C.

  Returns:
    A model from images to logits `[n, C]`.
  """
  return _build(applications.ResNet50, image_shape, num_classes, 32)


def inception_resnet(image_shape: tuple[int, int, int], num_classes: int) -> tf.keras.Model:
  """Inception-ResNet-v2 as a classifier, the successor of the v1 that public FaceNet code has.

  Source: https://arxiv.org/abs/1602.07261.

  Args:
    image_shape: Height, width and channels; smaller images are padded to 75x75 with zeros.
    num_classes: C.

  Returns:
    A model from images to logits `[n, C]`.
  """
  return _build(applications.InceptionResNetV2, image_shape, num_classes, 75)


def _build(application, image_shape, num_classes, least):
  inputs = layers.Input(image_shape)
  missing = [max(least - side, 0) for side in image_shape[:2]]
  padding = [(side // 2, side - side // 2) for side in missing]
  images = layers.ZeroPadding2D(padding)(inputs) if any(missing) else inputs
  # With a tensor, its layers are those of the model, where attacks look for them.
  return application(
    weights=None, input_tensor=images, classes=num_classes, classifier_activation=None
  )
